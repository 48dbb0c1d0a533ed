import { nearest } from '../base/nearest.ts' // the file, not the door: every start of the CLI loads this
import { Failure } from '../domain/failure.ts'

/** A command line that cannot be understood. `hint` says what to write instead. */
export const usageFailure = (message: string, hint?: string): Failure =>
  new Failure('request.invalid', message, hint === undefined ? {} : { remediation: hint })

/** The failure behind what commander says when it refuses a command line. */
export function failureOfParsing(message: string, command: { name: string; commands: string[] }): Failure {
  const [first = '', ...rest] = message.replace(/^error: /, '').split('\n')
  const help = `${command.name} --help shows what it takes.`
  const unknown = /^unknown command '(.*)'$/.exec(first)?.[1]
  const near =
    unknown === undefined ? /Did you mean (.+?)\?/.exec(rest.join(' '))?.[1] : nearest(unknown, command.commands)
  return usageFailure(first, near ? `Did you mean ${near}? ${help}` : help)
}
