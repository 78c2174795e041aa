"""Looking into a guest by what its kernel means: tasks, modules, messages, types, core files (docs/research/introspection.md)."""
