"""What `make test` is made of: one module a suite, and the three that all of them use (report, process, build)."""
