"""`python -m ops plans`: how Postgres carries out each hot statement on a large set of rows.

It is asked on connections as the product opens them, and with plans as they are kept once a statement is prepared.

`session` starts a Postgres of its own and takes the steps; `fill` makes the rows; `statements` and
`inbox_statements` list what is asked, with parameters; `explain` prepares and asks; `plan` reads the answer;
`report` writes it down.

Invariant: nothing is measured but by Postgres itself, and no statement is written here: their text is the product's.
The exit status speaks of big tables that are read whole, never of time.
"""
