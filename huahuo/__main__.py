"""`python -m huahuo` is the `huahuo` program."""

from huahuo.cli.main import main

main()
