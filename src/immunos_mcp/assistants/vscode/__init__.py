"""Visual Studio Code: its setup."""
