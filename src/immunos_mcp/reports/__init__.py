"""Reports: the figures, and their formats as text, CSV and HTML page. No I/O."""
