import { z } from 'zod'
import type { Json, JsonObject } from '../../../base/json.ts'
import { Failure, failureOfProblems, type Problem } from '../../../domain/failure.ts'
import { FAILURES } from '../../../domain/failures.ts'
import { keysOfSchema } from '../../../domain/kinds/known-keys.ts'
import { isObject, problemsOfIssue, unplaced } from '../../../domain/placed-problem.ts'
import { readYaml } from '../../../domain/yaml.ts'

const json = z.custom<Json>((value) => value !== undefined)
const failureCode = z.enum(Object.keys(FAILURES) as [string, ...string[]]) // the catalogue is not empty

const fixture = z
  .strictObject({
    /** What it shows. */
    name: z.string().min(1).max(200),
    input: z.custom<JsonObject>(isObject, { error: 'must be a map' }).default({}),
    /** What has to come, exactly. */
    output: json.optional(),
    /** How it has to fail instead. */
    fails: z
      .strictObject({ code: failureCode, /** Is in the reason. */ reason: z.string().min(1).optional() })
      .optional(),
  })
  .refine(({ output, fails }) => (output === undefined) !== (fails === undefined), {
    error: 'must have either output or fails',
  })

const fixturesSchema = z.strictObject({
  /** A program that is started beside, for tools that are called over a network. */
  serve: z.array(z.string().min(1)).min(1).optional(),
  /** HOST:PORT that it listens at when it can be called. */
  ready: z
    .string()
    .regex(/^[\w.:[\]-]+:\d{1,5}$/, { error: 'must be HOST:PORT, such as 127.0.0.1:8787' })
    .optional(),
  /** Stand-ins for values of secrets, by SECRET/KEY. */
  secrets: z.record(z.string().regex(/^[^/]+\/[^/]+$/, { error: 'must be SECRET/KEY' }), z.string()).default({}),
  fixtures: z.array(fixture).min(1),
})

export type Fixtures = z.infer<typeof fixturesSchema>
export type Fixture = Fixtures['fixtures'][number]

/** The fixtures of a file. Throws one failure with all problems and their places. */
export function readFixtures(text: string, file: string): Fixtures {
  const yaml = readYaml(text)
  if (yaml.value === undefined || yaml.problems.length > 0) throw failureOfProblems(yaml.problems, `reading ${file}`)
  const parsed = fixturesSchema.safeParse(yaml.value, { reportInput: true })
  if (parsed.success) {
    if (parsed.data.serve === undefined || parsed.data.ready !== undefined) return parsed.data
    throw new Failure('manifest.invalid', `reading ${file}`, {
      remediation: 'Say with ready: HOST:PORT when what serve starts can be called.',
    })
  }
  const known = (path: readonly PropertyKey[]): string[] => keysOfSchema(fixturesSchema, path)
  const problems: Problem[] = parsed.error.issues
    .flatMap((issue) => problemsOfIssue(issue, known))
    .map((found) => ({ ...unplaced(found), ...yaml.placeOf(found.parts, found.at), file }))
  throw failureOfProblems(problems, `reading ${file}`)
}
