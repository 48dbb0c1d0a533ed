import type { z } from 'zod'
import type { JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { Problem } from './failure.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'

/** A problem that still knows its path in parts, so that its line can be found, and what was meant once it is asked: that costs time. */
export type Placed = Problem & { parts: Path; at: 'key' | 'value'; meant?: () => string | null }

/** The problem without what only served to find its place. */
export function unplaced({ parts: _parts, at: _at, meant, ...found }: Placed): Problem {
  const near = meant?.() ?? null
  return near === null ? found : { ...found, nearest: near }
}

/** As many as a person reads; the last says how many more there are. */
export function capped(problems: Placed[]): Placed[] {
  if (problems.length <= LIMITS.problemsMax) return problems
  const shown = problems.slice(0, LIMITS.problemsMax - 1)
  return [...shown, placedProblem('manifest.invalid', `and ${problems.length - shown.length} more problems`, [])]
}

export function placedProblem(
  code: Problem['code'],
  message: string,
  parts: Path,
  meant?: () => string | null,
): Placed {
  return { code, message, path: formatPath(parts), parts, at: 'value', ...(meant ? { meant } : {}) }
}

/** What an issue of a schema means to the person who wrote the document. `knownKeysAt` tells what an unknown key was probably meant to be. */
export function problemsOfIssue(
  issue: z.core.$ZodIssue,
  knownKeysAt: (path: readonly PropertyKey[]) => string[],
): Placed[] {
  const parts = issue.path.map((part) => (typeof part === 'number' ? part : String(part)))
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.slice(0, LIMITS.problemsMax + 1).map((key) => {
        const known = knownKeysAt(issue.path)
        const here = formatPath(parts) || 'the manifest'
        const found = placedProblem(
          'manifest.invalid',
          `${JSON.stringify(key)} is no key of ${here}`,
          [...parts, key],
          () => nearest(key, known),
        )
        return { ...found, at: 'key' }
      })
    case 'invalid_key':
      return issue.issues.map((inner) => ({ ...placedProblem('manifest.invalid', inner.message, parts), at: 'key' }))
    case 'invalid_value': {
      if (issue.input === undefined) return [placedProblem('manifest.invalid', 'is required', parts)]
      const values = issue.values.map(String)
      const shown = values.length > 12 ? `${values.slice(0, 12).join(', ')}, …` : values.join(', ')
      const { input } = issue
      const near = (): string | null => (typeof input === 'string' ? nearest(input, values) : null)
      return [placedProblem('manifest.invalid', `must be ${values.length > 1 ? 'one of ' : ''}${shown}`, parts, near)]
    }
    case 'invalid_type': {
      if (issue.input === undefined) return [placedProblem('manifest.invalid', 'is required', parts)]
      const isOwn = !issue.message.startsWith('Invalid input')
      const expected = isOwn ? issue.message : `must be ${KINDS[issue.expected] ?? issue.expected}`
      return [placedProblem('manifest.invalid', `${expected}; this is ${kindOf(issue.input)}`, parts)]
    }
    case 'too_small':
      return [
        placedProblem(
          'manifest.invalid',
          issue.message.startsWith('Too')
            ? `must be at least ${issue.minimum} ${issue.origin === 'array' ? 'long' : ''}`.trim()
            : issue.message,
          parts,
        ),
      ]
    case 'too_big':
      return [
        placedProblem(
          'manifest.invalid',
          issue.message.startsWith('Too')
            ? `must be at most ${issue.maximum} ${issue.origin === 'array' || issue.origin === 'string' ? 'long' : ''}`.trim()
            : issue.message,
          parts,
        ),
      ]
    case 'invalid_union': {
      // The branch that fits from outside says what is wrong inside.
      const inside = issue.errors.find((branch) => branch.every((inner) => !isOfKind(inner)))
      if (inside && inside.length > 0)
        return inside.flatMap((inner) =>
          problemsOfIssue({ ...inner, path: [...issue.path, ...inner.path] }, knownKeysAt),
        )
      return [placedProblem('manifest.invalid', issue.message, parts)]
    }
    default:
      return [placedProblem('manifest.invalid', issue.message, parts)]
  }
}

/** The value itself is of another kind. */
const isOfKind = (issue: z.core.$ZodIssue): boolean => issue.code === 'invalid_type' && issue.path.length === 0

const KINDS: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map',
  record: 'a map',
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return 'a list'
  return KINDS[typeof value] ?? typeof value
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
