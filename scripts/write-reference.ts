// Writes docs/reference/ from schemas, routes, tables and the program. `--check` writes nothing and fails when a page is stale.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Kind } from '../src/domain/kinds/kind.ts'
import { KINDS } from '../src/domain/kinds/registry.ts'
import { apiPage } from './reference/api.ts'
import { commandPage, settingPage } from './reference/commands.ts'
import { kindPage } from './reference/kinds.ts'
import { exitPage, limitPage, metricPage } from './reference/numbers.ts'

const ROOT = join(import.meta.dirname, '..')
const FOLDER = join(ROOT, 'docs', 'reference')
const limits = readFileSync(join(ROOT, 'src', 'domain', 'limits.ts'), 'utf8')

/** Every page by its name. */
export function referencePages(): Map<string, string> {
  return new Map([
    ...KINDS.map((kind: Kind): [string, string] => [`${kind.kind.toLowerCase()}.md`, kindPage(kind)]),
    ['commands.md', commandPage()],
    ['settings.md', settingPage()],
    ['api.md', apiPage()],
    ['exit-codes.md', exitPage()],
    ['metrics.md', metricPage()],
    ['limits.md', limitPage(limits)],
  ])
}

if (import.meta.main) {
  mkdirSync(FOLDER, { recursive: true })
  const wanted = referencePages()
  const present = readdirSync(FOLDER)
  const isFresh = (name: string) =>
    present.includes(name) && readFileSync(join(FOLDER, name), 'utf8') === wanted.get(name)
  const stale = [...new Set([...wanted.keys(), ...present])].filter((name) => !isFresh(name))
  if (process.argv.includes('--check')) {
    if (stale.length > 0) {
      process.stderr.write(`docs/reference is stale (${stale.join(', ')}): run npm run reference.\n`)
      process.exitCode = 1
    }
  } else
    for (const name of stale) {
      const text = wanted.get(name)
      if (text === undefined) rmSync(join(FOLDER, name))
      else writeFileSync(join(FOLDER, name), text)
    }
}
