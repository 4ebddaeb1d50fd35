"""Records, directory and room as pure functions of signed records. Never any I/O or clock."""
