"""Reports: how an answer is put together, and how it looks as text, table and page. No I/O."""
