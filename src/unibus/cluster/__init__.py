"""A cluster's material: what its nodes are, their certificates, settings and bundle, made on the operator's machine."""
