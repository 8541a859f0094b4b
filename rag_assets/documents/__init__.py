"""Documents: what a folder holds, the bytes of its files, and what they say.

``source`` lists and reads, ``parsing`` turns bytes into elements in disposable processes, ``normalise`` decides the one
form of text. ``formats`` has one reader per format; it is imported only by the parsing process, ``worker``.
"""
