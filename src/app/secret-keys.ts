import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Log } from '../base/index.ts'
import { Failure } from '../domain/index.ts'
import { KeyRing, type KeySource } from '../store/index.ts'

/** Written over each new key file, for whoever opens it. */
const HEAD =
  '# Keys for secrets of Orrery. The first one encrypts, all of them decrypt. Without them stored secrets are lost.\n'

/** Which keys a server seals secrets with: those of a file or variable that it was given, else on the embedded store its own file. */
export function openKeyRing(options: {
  given: { file: string | null; variable: string | undefined }
  /** Where the embedded store keeps its own; null on PostgreSQL, whose keys all servers must share. */
  ownFile: string | null
  log: Log
}): KeyRing {
  const { file, variable } = options.given
  const text = variable === '' ? undefined : variable
  if (file !== null && text !== undefined)
    throw new Failure('config.invalid', `reading the keys for secrets: both ${file} and ORRERY_SECRETS_KEY are given`, {
      remediation: 'Keep one of --secrets-key-file (ORRERY_SECRETS_KEY_FILE) and ORRERY_SECRETS_KEY.',
    })
  if (text !== undefined)
    return new KeyRing({ name: 'ORRERY_SECRETS_KEY', read: () => Promise.resolve(text), prepend: null })
  if (file !== null) return new KeyRing(fileSource(file, { log: options.log, isOwn: false }))
  return new KeyRing(options.ownFile === null ? null : fileSource(options.ownFile, { log: options.log, isOwn: true }))
}

function fileSource(file: string, { log, isOwn }: { log: Log; isOwn: boolean }): KeySource {
  const read = async (): Promise<string | null> => {
    try {
      const { mode } = await stat(file)
      if ((mode & 0o077) !== 0)
        log.warn('key file can be read by others', { file, mode: (mode & 0o777).toString(8), wanted: '600' })
      return await readFile(file, 'utf8')
    } catch (error) {
      // A file that was named and is not there is a mistake; one of our own is made when it is first needed.
      if (isOwn && error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw new Failure('file.unreadable', `reading the keys for secrets from ${file}`, {
        cause: error,
        evidence: { path: file },
        remediation:
          'Correct --secrets-key-file, or make a key there: orrery secret generate-key > FILE; chmod 600 FILE.',
      })
    }
  }
  const prepend = async (key: string): Promise<string> => {
    const former = (await read()) ?? HEAD
    const head = former.startsWith(HEAD) ? HEAD : ''
    const text = `${head}${key}\n${former.slice(head.length)}`
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    // Whole or not at all: a torn key file would lose every secret.
    const handle = await open(`${file}.new`, 'w', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await chmod(`${file}.new`, 0o600)
    await rename(`${file}.new`, file)
    return text
  }
  return { name: file, read, prepend: isOwn ? prepend : null }
}
