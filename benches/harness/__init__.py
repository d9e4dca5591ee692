"""The parts of benches/run.py: what is measured, by whom, how it is built, run and shown."""
