"""The fault campaign: the index is killed, frozen and overtaken in every way we know, and must stay and end right.

A trial runs a piece of work in a process of its own (``processes``, ``work``), lets a fault happen to it, and judges what is
left behind (``judging``) by an oracle that knows only the bytes of the folder (``oracle``). Each test has a quick profile,
part of ``make test``, and a long one, ``make test-faults``; both print how many trials of each kind of fault there were and
how many faults of each kind were found (``campaign``).
"""
