import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const HERE = import.meta.dirname
const HOME = join(HERE, '..', '..', '.cache', 'real-model')
const FILES = ['package.json', 'package-lock.json', '.npmrc']

export type RealModelPackages = { kind: 'there'; directory: string } | { kind: 'missing'; reason: string }

/** What the installed packages are told by: the lock file of the project, since npm may write its copy anew. */
const wanted = (): string => readFileSync(join(HERE, 'package-lock.json'), 'utf8')

/** The packages of the engine, where they are and as the lock file wants them. */
export function findRealModel(): RealModelPackages {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return {
      kind: 'missing',
      reason: `the engine's package is for linux-x64, and this is ${process.platform}-${process.arch}`,
    }
  const stamp = join(HOME, 'installed')
  const isDone = existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted()
  if (isDone) return { kind: 'there', directory: HOME }
  return { kind: 'missing', reason: 'the engine is not installed; npm run verify installs it' }
}

/**
 * Installs the engine beside the project: 85 MB that only these tests need, and of its own accord it would bring builds for graphics cards, 640 MB more.
 */
export function installRealModel(): RealModelPackages {
  const found = findRealModel()
  if (found.kind === 'there' || process.platform !== 'linux' || process.arch !== 'x64') return found
  mkdirSync(HOME, { recursive: true })
  for (const name of FILES) copyFileSync(join(HERE, name), join(HOME, name))
  // Not `ci`: that wants builds for other systems in the lock file, which not every registry has.
  const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--omit=optional']
  const done = spawnSync('npm', args, { cwd: HOME, encoding: 'utf8' })
  if (done.status !== 0)
    return { kind: 'missing', reason: `npm ${args.join(' ')} failed: ${(done.stderr ?? '').slice(-500)}` }
  writeFileSync(join(HOME, 'installed'), wanted())
  return findRealModel()
}
