import { Command } from 'commander'
import { addAccess } from './access-commands.ts'
import { addPlan, addRun } from './run-commands.ts'
import { addDoctor, addLogs, addStatus, addUp, addWorker, addWorkers } from './server-commands.ts'
import { addArtifacts, addEvents, addRuns } from './runs-commands.ts'
import { addApprovals } from './approval-commands.ts'
import { addSecret } from './secret-commands.ts'
import { addCompletion, addExplain, addInit, addVersion } from './general-commands.ts'
import { examples, type ProgramOptions } from './options.ts'
import { addResources } from './resource-commands.ts'

/** The whole command line: what there is, what it takes, what it says about itself. */
export function buildProgram(options: ProgramOptions): Command {
  const program = new Command('orrery')
    .description('Runs workflows durably on your own machines and names the cause and remedy of every failure.')
    .version(options.deps.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .addHelpText(
      'after',
      examples(
        'orrery run flow.yaml --input city=Oslo',
        'orrery up',
        'orrery runs list',
        'orrery explain step.timed_out',
      ),
    )
  addRun(program, options)
  addPlan(program, options)
  addUp(program, options)
  addWorker(program, options)
  addRuns(program, options)
  addEvents(program, options)
  addArtifacts(program, options)
  addResources(program, options)
  addApprovals(program, options)
  addWorkers(program, options)
  addStatus(program, options)
  addLogs(program, options)
  addSecret(program, options)
  addAccess(program, options)
  addExplain(program, options)
  addInit(program, options)
  addCompletion(program, options)
  addDoctor(program, options)
  addVersion(program, options)
  return program
}
