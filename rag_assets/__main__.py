"""The command ``rag-assets``, which ``python -m rag_assets`` is, too."""

import sys


def main() -> None:
    """Run the command that the words after the program's name ask for."""
    stamp = None
    if sys.argv[1:2] == ["sync"]:
        from rag_assets.stamp import Stamp

        stamp = Stamp(sys.argv[1:])
        told = stamp.told()
        if told is not None:
            sys.stdout.write(f"{told}\n")
            return
    # What reads options takes longer to import than all of that.
    from rag_assets.cli import main as command

    command(prog_name="rag-assets", obj=stamp)


if __name__ == "__main__":
    main()
