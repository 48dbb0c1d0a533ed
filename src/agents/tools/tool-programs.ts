import { realpathSync } from 'node:fs'
import { join, sep } from 'node:path'
import { Failure } from '../../domain/failure.ts'
import { FILES_INSIDE, findProgram, SYSTEM_PATH } from './sandbox.ts'

/** What the host of a worker has for tools that are programs. */
export interface ToolPrograms {
  /** Directory of the programs and modules that manifests name as `./NAME` or as a module; null: none. */
  files: string | null
  /** Programs, as manifests name them, that may run without isolation; `*` is all. */
  hostCommands: readonly string[]
}

export const NO_PROGRAMS: ToolPrograms = { files: null, hostCommands: [] }

const notThere = (name: string, why: string, remediation: string): Failure =>
  new Failure('tool.module_not_found', `looking for ${name}: ${why}`, { evidence: { name }, remediation })

/** Where a program is that a manifest names in `field`: on the host, or in the sandbox. Throws `tool.module_not_found`. */
export function placeOfProgram(
  program: string,
  { files }: Pick<ToolPrograms, 'files'>,
  { inSandbox, field }: { inSandbox: boolean; field: string },
): string {
  if (program.startsWith('./')) {
    const place = fileOfTool(program, files)
    return inSandbox ? join(FILES_INSIDE, program) : place
  }
  const found = findProgram(program)
  if (found === null)
    throw notThere(
      program,
      `it is no program in ${SYSTEM_PATH}`,
      `Install ${program} on the host of the worker, or correct ${field}.`,
    )
  if (inSandbox && !/^\/(usr|bin|sbin)\//.test(found))
    throw notThere(
      program,
      'a sandbox sees programs below /usr and the files of tools alone',
      'Put it beside the files of the tools, and name it ./NAME.',
    )
  return found
}

/** A file below the directory of the tools, also when links are followed. */
export function fileOfTool(name: string, files: string | null): string {
  if (files === null)
    throw notThere(
      name,
      'the worker has no files of tools',
      'Start the worker with --tool-files DIR; orrery mcp takes it as well.',
    )
  try {
    const root = realpathSync(files)
    const place = realpathSync(join(root, name))
    if (place.startsWith(root + sep)) return place
  } catch {
    throw notThere(name, `it is not in ${files}`, `Put it into ${files}, or correct the manifest.`)
  }
  throw notThere(name, `it leads out of ${files}`, `Put the file itself into ${files}.`)
}
