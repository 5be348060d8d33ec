"""Where results go: files, videos, screens."""
