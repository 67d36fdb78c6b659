// Parses an AsyncAPI document with the official parser. Prints a JSON object: what is wrong with it, and what it holds.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
const [ERROR, WARNING] = [0, 1]; // severities; what is beyond them is advice
const wrong = diagnostics.filter(({ severity }) => severity === ERROR || severity === WARNING);
process.stdout.write(JSON.stringify({
  wrong: wrong.map(({ message, path }) => `${path.join('.')}: ${message}`),
  version: document?.version(),
  sent: document?.allOperations().filterBySend().map((operation) => operation.id()),
  received: document?.allOperations().filterByReceive().map((operation) => operation.id()),
  replies: document?.allOperations().all().filter((operation) => operation.reply()).map((operation) => operation.id()),
}));
