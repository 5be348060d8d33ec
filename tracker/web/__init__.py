"""The web page. It runs in a process of its own: the tracking shares no interpreter with it."""
