"""`python -m retina_jit`."""

from retina_jit.cli import main

if __name__ == "__main__":  # a process that an archive is read with imports it under another name
    main(prog_name="retina-jit")
