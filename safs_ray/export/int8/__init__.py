"""A network in 8-bit integers: its passes over whole numbers, found from images after training.

``quantisation`` makes an :class:`~safs_ray.export.int8.integers.IntegerProgram` of a network, with the ranges that
``ranges`` chooses; what the program gives is defined in ``reference``, and ``safs_ray.export.c`` writes it as C.
"""
