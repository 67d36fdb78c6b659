"""HTTP in: what backends tell, and what users read and do. Answers 202 only for what is committed."""
