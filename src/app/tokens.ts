import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Ids, type Random, Secret } from '../base/index.ts'
import { Failure } from '../domain/index.ts'
import { makeToken } from '../engine/index.ts'
import { type Db, findToken, lockFirstAdmin, putToken } from '../store/index.ts'

interface TokenSource {
  /** From the environment. */
  given: string | undefined
  /** Where it is kept for the commands that follow; null: nowhere. */
  file: string | null
}

interface Making extends TokenSource {
  name: string
  role: 'admin' | 'worker'
  ids: Ids
  random: Random
}

/** A token that the environment gives, or one that is kept in a file that only this user may read. It is good when this resolves. */
export async function ensureToken(db: Db, options: Making): Promise<Secret> {
  const { given, file, random } = options
  const value = given ?? (file === null ? makeToken(random) : ((await readKept(file)) ?? (await keep(file, random))))
  await put(db, options, value)
  if (await findToken(db, value)) return new Secret(value)
  if (given !== undefined || file === null) {
    const variable = options.role === 'admin' ? 'ORRERY_ADMIN_TOKEN' : 'ORRERY_WORKER_TOKEN'
    throw new Failure(
      'config.value_unsupported',
      `taking the token of ${variable} for the ${options.role} of this server`,
      {
        evidence: { variable, wrong: 'the token was revoked or has expired' },
        remediation: `Set ${variable} to a new token, or unset it: the server then makes one.`,
      },
    )
  }
  // Whoever may read the file may start this server, so that a token which ended there is replaced and nobody is locked out.
  await rm(file, { force: true })
  const fresh = await keep(file, random)
  await put(db, options, fresh)
  return new Secret(fresh)
}

/**
 * Whether this server is to have an administrator's token of its own: it is given one, it kept one, or no other server of the same
 * database has made the first one yet. Of servers that start together one wins.
 */
export async function ensureFirstAdmin(
  db: Db,
  options: Omit<Making, 'role' | 'name'> & { file: string },
): Promise<boolean> {
  if (options.given !== undefined || (await readKept(options.file)) !== null) return true
  return db.transaction(async (tx) => {
    if (!(await lockFirstAdmin(tx))) return false
    await put(tx, { ...options, name: 'admin', role: 'admin' }, await keep(options.file, options.random))
    return true
  })
}

const put = (db: Parameters<typeof putToken>[0], { ids, name, role }: Making, secret: string): Promise<void> =>
  putToken(db, { id: ids.make('token'), name, secret, role, namespaces: null })

async function readKept(file: string): Promise<string | null> {
  const known = await readFile(file, 'utf8').catch(() => '')
  return known.trim() === '' ? null : known.trim()
}

async function keep(file: string, random: Random): Promise<string> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const token = makeToken(random)
  const handle = await open(file, 'w', 0o600)
  try {
    await handle.writeFile(`${token}\n`)
  } finally {
    await handle.close()
  }
  return token
}
