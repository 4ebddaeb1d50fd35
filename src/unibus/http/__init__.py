"""The control plane's HTTP adapter: routes, request signatures, problems. Never decides who may do what."""
