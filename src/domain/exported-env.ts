import { LIMITS } from './limits.ts'

export type ParsedExports =
  | { kind: 'read'; env: Record<string, string> }
  /** `line` counts from 1. What stands there is not repeated: it may be a secret. */
  | { kind: 'malformed'; line: number; problem: string }

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
/** Names that are the machine's or the product's own: what another step says of them would be wrong here. */
const RESERVED = /^(ORRERY_.*|LD_.*|PATH|HOME|TRACEPARENT)$/

export const isReservedVariable = (name: string): boolean => RESERVED.test(name)

/**
 * Reads what commands wrote to `$ORRERY_ENV`: `NAME=VALUE` lines, the value as it stands, and `NAME<<END` with lines up to one that is
 * just `END`. Empty lines count for nothing; a name that comes again has its last value. Pure.
 */
export function parseExports(text: string): ParsedExports {
  const env = new Map<string, string>()
  const lines = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line))
  const malformed = (at: number, problem: string): ParsedExports => ({ kind: 'malformed', line: at + 1, problem })
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? ''
    if (line.trim() === '') continue
    const [, name = '', mark = '', rest = ''] = /^([^=<]*)(=|<<)(.*)$/.exec(line) ?? []
    if (mark === '') return malformed(at, 'it is neither NAME=VALUE nor NAME<<END')
    if (!NAME.test(name)) return malformed(at, 'what stands before the sign is no name of a variable')
    let value = rest
    if (mark === '<<') {
      const end = rest.trim()
      if (end === '') return malformed(at, 'no end mark stands behind <<')
      const last = lines.indexOf(end, at + 1)
      if (last < 0) return malformed(at, 'the line with the end mark is missing')
      value = lines.slice(at + 1, last).join('\n')
      at = last
    }
    if (value.includes('\0')) return malformed(at, 'the value has a zero byte')
    env.set(name, value)
  }
  return { kind: 'read', env: Object.fromEntries(env) }
}

/** Bytes that variables take as `NAME=VALUE` lines. */
export const bytesOfEnv = (env: Readonly<Record<string, string>>): number =>
  Object.entries(env).reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value) + 2, 0)

/** What is too much about what one step hands on; null when it is not. */
export function exportsTooLarge(
  env: Readonly<Record<string, string>>,
): { what: string; is: number; limit: number } | null {
  const count = Object.keys(env).length
  if (count > LIMITS.exportsMax) return { what: 'variables', is: count, limit: LIMITS.exportsMax }
  const bytes = bytesOfEnv(env)
  return bytes > LIMITS.exportBytes ? { what: 'bytes', is: bytes, limit: LIMITS.exportBytes } : null
}
