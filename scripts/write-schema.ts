import { readFile, writeFile } from 'node:fs/promises'
import { silentLog } from '../src/base/index.ts'
import { describeSchema, openEmbedded } from '../src/store/index.ts'

/** Writes src/store/schema.txt from the migrations; with --check writes nothing and ends with 1 when the file is stale. */

const FILE = new URL('../src/store/schema.txt', import.meta.url)

async function schemaText(): Promise<string> {
  const options = { dataDir: null, seedDir: null, version: '0', pid: process.pid, isAlive: () => null, log: silentLog }
  const db = await openEmbedded(options)
  try {
    return `${(await describeSchema(db)).join('\n')}\n`
  } finally {
    await db.close()
  }
}

/** True when schema.txt is what the migrations make. */
export async function isSchemaFresh(): Promise<boolean> {
  return (await readFile(FILE, 'utf8').catch(() => '')) === (await schemaText())
}

if (import.meta.main) {
  if (!process.argv.includes('--check')) await writeFile(FILE, await schemaText())
  else if (!(await isSchemaFresh())) {
    console.error('src/store/schema.txt is stale: run node scripts/write-schema.ts')
    process.exitCode = 1
  }
}
