import { mkdir, open, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Ids, type Random, Secret } from '../base/index.ts'
import { type Db, putToken } from '../store/index.ts'

/** A token: 256 bits, with a prefix that secret scanners can know. */
const makeToken = (random: Random): string => `orr_${Buffer.from(random.bytes(32)).toString('base64url')}`

/** A token that the environment gives, or one that is kept in a file that only this user may read. Its hash is in the store after. */
export async function ensureToken(
  db: Db,
  options: {
    given: string | undefined
    file: string | null
    name: string
    role: 'admin' | 'worker'
    ids: Ids
    random: Random
  },
): Promise<Secret> {
  const value =
    options.given ?? (options.file === null ? makeToken(options.random) : await keptToken(options.file, options.random))
  await putToken(db, {
    id: options.ids.make('token'),
    name: options.name,
    secret: value,
    role: options.role,
    namespaces: null,
  })
  return new Secret(value)
}

async function keptToken(file: string, random: Random): Promise<string> {
  const known = await readFile(file, 'utf8').catch(() => null)
  if (known !== null && known.trim() !== '') return known.trim()
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
