"""Route work between Claude and local Ollama models under one shared token budget."""

__version__ = "0.1.0"
