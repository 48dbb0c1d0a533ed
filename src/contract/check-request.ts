import type { z } from 'zod'
import { nearest } from '../base/nearest.ts'
import { type Failure, failureOfProblems, type Problem } from '../domain/failure.ts'

/** The value as its schema gives it, or a `request.invalid` that lists every problem with its place. */
export function checkRequest<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw failureOfProblems(
    result.error.issues.flatMap((issue) => problemsOfIssue(issue, schema)),
    what,
  )
}

/** `request.invalid` for one place. */
export function invalidRequest(what: string, path: string, message: string): Failure {
  return failureOfProblems([{ code: 'request.invalid', path, message }], what)
}

function problemsOfIssue(issue: z.core.$ZodIssue, schema: z.ZodType): Problem[] {
  const path = pathText(issue.path)
  if (issue.code !== 'unrecognized_keys') return [{ code: 'request.invalid', path, message: issue.message }]
  // Names are known for the top level only; deeper ones go without a suggestion.
  const known = issue.path.length === 0 && 'shape' in schema ? Object.keys(schema.shape as object) : []
  return issue.keys.slice(0, 20).map((key) => {
    const near = nearest(key, known)
    return {
      code: 'request.invalid',
      path: path === '' ? key.slice(0, 200) : `${path}.${key.slice(0, 200)}`,
      message: 'there is no such member',
      ...(near === null ? {} : { nearest: near }),
    }
  })
}

function pathText(path: readonly PropertyKey[]): string {
  let out = ''
  for (const part of path) out += typeof part === 'number' ? `[${part}]` : `${out === '' ? '' : '.'}${String(part)}`
  return out
}
