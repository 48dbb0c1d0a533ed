import { nearest } from '../base/nearest.ts' // the file, not the door: every start of the CLI loads this
import { Failure } from '../domain/failure.ts'

/** How a command may print what it found. `wide` has every column and cuts nothing; `name` prints what other commands take. */
export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const
export type Format = (typeof FORMATS)[number]

/** The format that `-o` names, of those that the command has. */
export function parseFormat(text: string, accepted: readonly Format[]): Format {
  const found = accepted.find((format) => format === text)
  if (found) return found
  const near = nearest(text, accepted)
  throw new Failure('config.value_unsupported', `-o ${text} is no format of this command`, {
    evidence: { accepted: [...accepted] },
    remediation: near ? `Did you mean ${near}?` : 'Use one of the accepted formats.',
  })
}

/** The format that a command line asks for, before it is known whether it can be understood: failures are told in it. */
export function guessFormat(argv: readonly string[]): Format {
  const end = argv.indexOf('--')
  const words = argv.slice(0, end < 0 ? argv.length : end)
  const asks = words.some((word, i) => ['-o', '--output'].includes(word) && words[i + 1] === 'json')
  return asks || words.some((word) => ['--json', '-ojson', '--output=json'].includes(word)) ? 'json' : 'table'
}
