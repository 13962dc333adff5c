"""A network as C99: a table of nonzeros and a few loops, from the passes that the engine runs over."""
