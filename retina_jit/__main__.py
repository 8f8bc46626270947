"""`python -m retina_jit`."""

from retina_jit.cli import main

main(prog_name="retina-jit")
