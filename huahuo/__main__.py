"""`python -m huahuo` is the `huahuo` program."""

from huahuo.cli import main

main()
