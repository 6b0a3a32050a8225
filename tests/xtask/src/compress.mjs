// Compresses what is worth it of a built console, once and as small as it gets, and holds the budget of the bundle:
// `node compress.mjs DIRECTORY`. Browsers take brotli over TLS, and gzip everywhere.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';

const BUDGET = 200_000;
const WORTH_IT = /\.(html|js|css|svg|json|txt|webmanifest)$/;

const directory = process.argv[2];
let sum = 0;
for (const name of readdirSync(directory, { recursive: true })) {
  if (!WORTH_IT.test(name)) continue;
  const file = join(directory, name);
  const plain = readFileSync(file);
  const gzip = gzipSync(plain, { level: 9 });
  sum += gzip.length;
  writeFileSync(`${file}.br`, brotliCompressSync(plain));
  writeFileSync(`${file}.gz`, gzip);
}
console.log(`the console has ${(sum / 1000).toFixed(1)} kB, compressed by gzip`);
if (sum > BUDGET) {
  console.error(`error: expected at most ${BUDGET / 1000} kB`);
  process.exit(1);
}
