import type { Command } from 'commander'
import type { McpCallFlags, McpFlags, McpUseFlags } from '../commands/mcp.ts'
import { examples, many, type ProgramOptions, withConnection, withServer } from './options.ts'
import type { ServerFlags } from '../commands/runs.ts'

export function addMcp(program: Command, { deps, output, done }: ProgramOptions): void {
  const mcp = program
    .command('mcp')
    .summary('list and try MCP servers, and be one')
    .description('Lists the MCP servers that were declared and tries them from here, or serves Orrery to MCP clients.')
    .addHelpText('after', examples('orrery mcp list', 'orrery mcp tools files -f servers.yaml', 'orrery mcp serve'))
  const namespace = ['-n, --namespace <name>', 'namespace of the server (default "default")'] as const
  const use = (command: Command, ...names: 'name'[]): Command =>
    withServer(command, ...names)
      .option(...namespace)
      .addOption(many('-f, --file <path>', 'take it from a manifest instead of a server; may be given several times'))
      .addOption(
        many(
          '--secret <name/key=value>',
          'a secret that it names, or =@FILE: values are not read from a server; may be given several times',
        ),
      )
      .option('--tool-files <dir>', 'programs that a sandbox runs as ./NAME (ORRERY_TOOL_FILES)')
  withServer(
    mcp
      .command('list', { isDefault: true })
      .description('Lists MCP servers, and whether the secrets that they name are there.'),
    'name',
  )
    .option(...namespace)
    .addHelpText('after', examples('orrery mcp list', 'orrery mcp list -n team -o json'))
    .action(async (flags: McpFlags) =>
      done(await (await import('../commands/mcp.ts')).listMcpServers(deps, output, flags)),
    )
  use(
    mcp
      .command('tools')
      .description('Lists the tools that agents would be offered. A program is started on this machine, as this user.'),
    'name',
  )
    .argument('<name>', 'name of the MCP server')
    .addHelpText(
      'after',
      examples('orrery mcp tools files', 'orrery mcp tools tickets --secret tickets/token=@token.txt'),
    )
    .action(async (name: string, flags: McpUseFlags) =>
      done(await (await import('../commands/mcp.ts')).showMcpTools(deps, output, name, flags)),
    )
  use(mcp.command('call').description('Calls a tool from this machine, as this user, and prints what it gives.'))
    .argument('<name>', 'name of the MCP server')
    .argument('<tool>', 'name of the tool')
    .option('--input <json>', 'its arguments as a JSON object; @FILE reads them from a file, - from standard input')
    .addHelpText('after', examples(`orrery mcp call files read_file --input '{"path": "/srv/reports/a.txt"}'`))
    .action(async (name: string, tool: string, flags: McpCallFlags) =>
      done(await (await import('../commands/mcp.ts')).callMcpTool(deps, output, { name, tool }, flags)),
    )
  withConnection(
    mcp
      .command('serve')
      .description(
        'Serves Orrery to an MCP client over the standard streams, as whom the token is, until its input ends.',
      ),
  )
    .addHelpText('after', examples('orrery mcp serve', 'orrery mcp serve --server https://orrery.example'))
    .action(async (flags: ServerFlags) => done(await (await import('../commands/mcp.ts')).serveMcp(deps, flags)))
}
