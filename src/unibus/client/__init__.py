"""The library that people import. Trusts no server: verifies every record and frame itself."""
