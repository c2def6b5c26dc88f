"""The server: a REST API, a live stream and a page, for whoever wants readings without Python."""
