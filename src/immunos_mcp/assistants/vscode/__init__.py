"""Visual Studio Code: how it is set up."""
