"""How well and how fast an index answers: golden questions, metrics, intervals, and the report people forward."""
