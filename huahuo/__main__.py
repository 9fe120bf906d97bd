"""`python -m huahuo` is the `huahuo` program."""

from huahuo.cli.entry import main

main()
