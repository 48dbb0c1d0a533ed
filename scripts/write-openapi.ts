import { readFile, writeFile } from 'node:fs/promises'
import { makeOpenApi } from '../src/contract/openapi.ts'

/** Writes openapi.json from the routes; with --check writes nothing and ends with 1 when the file is stale. */

const FILE = new URL('../openapi.json', import.meta.url)

export async function openApiText(): Promise<string> {
  const manifest = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return `${JSON.stringify(makeOpenApi(manifest.version), null, 2)}\n`
}

/** True when openapi.json is what the routes give. */
export async function isOpenApiFresh(): Promise<boolean> {
  const written = await readFile(FILE, 'utf8').catch(() => '')
  return written === (await openApiText())
}

if (import.meta.main) {
  if (!process.argv.includes('--check')) await writeFile(FILE, await openApiText())
  else if (!(await isOpenApiFresh())) {
    console.error('openapi.json is stale: run node scripts/write-openapi.ts')
    process.exitCode = 1
  }
}
