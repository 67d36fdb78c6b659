"""What is known: settings, states, errors, wire contracts, tables, SQL. Imports no web, queue or socket framework."""
