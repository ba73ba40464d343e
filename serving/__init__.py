"""The endpoint: HTTP, Ray Serve and the state of a running process."""
