import { Failure } from '../domain/failure.ts'

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'EAI_AGAIN',
  '57P01',
  '57P02',
  '57P03',
  '08000',
  '08001',
  '08003',
  '08004',
  '08006',
  '25P03', // idle in a transaction for too long: the server was stopped in the middle of one
  '53300',
])

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : ''

/** Turns what a driver throws into our failures; what is neither (a broken statement) stays as it is: a bug. */
export function storageFailure(error: unknown): unknown {
  if (error instanceof Failure) return error
  const code = codeOf(error)
  const text = error instanceof Error ? error.message : String(error)
  if (
    UNREACHABLE.has(code) ||
    /Connection terminated|connection timeout|timeout exceeded when trying to connect|Client has encountered a connection error|not queryable/i.test(
      text,
    )
  ) {
    return new Failure('storage.unreachable', 'asking the database', {
      cause: error,
      evidence: { errorCode: code || 'connection' },
    })
  }
  if (code === '53100' || code === 'ENOSPC') {
    return new Failure('storage.disk_full', 'writing to the database', { cause: error })
  }
  if (code === '28P01' || code === '28000' || code === '3D000') {
    return new Failure('storage.unreachable', 'logging in to the database', {
      cause: error,
      evidence: { errorCode: code },
      remediation:
        'PostgreSQL answered, but refused the user, the password or the database name in ORRERY_POSTGRES_DSN.',
    })
  }
  return error
}

/** True when the same statement may be sent again: a serialization loser or a deadlock victim. */
export const isRetryableConflict = (error: unknown): boolean => ['40001', '40P01', '55P03'].includes(codeOf(error))

/** True when something else has the same key meanwhile. */
export const isUniqueViolation = (error: unknown): boolean => codeOf(error) === '23505'
