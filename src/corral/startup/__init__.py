"""What stands in for slow imports of the standard library, and the bytecode of all modules in one file."""
