"""Tools for looking into a guest; imported only when they are used."""
