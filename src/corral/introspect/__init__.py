"""Looking into a guest by what its kernel means (docs/research/introspection.md)."""
