// A copy of the sources with one replacement, and programs run in it.
import { execFile } from 'node:child_process'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Mutant } from './mutants.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const TREES = join(ROOT, '.cache', 'mutants')
/** Where the simulations of every tree find a fresh database: its schema is the same in all. */
export const PREPARED = join(ROOT, '.cache', 'orrery')

export interface Ran {
  code: number | null
  output: string
}

export interface Tree {
  run(program: string, args: string[]): Promise<Ran>
  remove(): Promise<void>
}

/** Below the checkout, so that packages are found from there. Null for a copy without a replacement. */
export async function makeTree(mutant: Mutant | null): Promise<Tree> {
  const name = mutant?.name.replaceAll(/[^a-z]+/g, '-') ?? 'as-it-is'
  const dir = join(TREES, `${process.pid}-${name}`)
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  const isNeeded = (path: string) => !path.endsWith('.test.ts')
  for (const folder of ['src', 'test/sim', 'test/mutation'])
    await cp(join(ROOT, folder), join(dir, folder), { recursive: true, filter: isNeeded })
  if (mutant) await mutate(join(dir, mutant.file), mutant)
  return {
    run: (program, args) => run(dir, program, args),
    remove: () => rm(dir, { recursive: true, force: true }),
  }
}

async function mutate(file: string, { name, from, to }: Mutant): Promise<void> {
  const text = await readFile(file, 'utf8')
  const found = text.split(from).length - 1
  // A mutant that has lost its place proves nothing.
  if (found !== 1) throw new Error(`mutant "${name}": its text stands ${found} times in ${file}, not once`)
  await writeFile(
    file,
    text.replace(from, () => to),
  )
}

function run(dir: string, program: string, args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [join(dir, program), ...args],
      { cwd: dir, timeout: 140_000, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null
        resolve({ code, output: `${stdout}${stderr}` })
      },
    )
  })
}
