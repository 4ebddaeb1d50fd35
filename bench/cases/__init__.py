"""What is measured: one module a question, each giving cases whose first side is unibus."""
