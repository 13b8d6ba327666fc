/** One server: GraphQL over HTTP and WebSocket on one port, in front of the models. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApolloServer, type ApolloServerOptionsWithGateway } from '@apollo/server';
import { type Logger, pino } from 'pino';
import type { Config } from './config.ts';
import type { Context } from './context.ts';
import { buildGraphqlSchema } from './resolvers/build-schema.ts';
import { formatError } from './resolvers/format-error.ts';
import { GenerationLoader } from './resolvers/loaders.ts';
import { OperationRunner } from './server/execute-operation.ts';
import { handleHttp } from './server/http-handler.ts';
import { InFlight } from './server/in-flight.ts';
import { MAX_DOCUMENT_LEXEMES } from './server/limits.ts';
import { serveWebsocket } from './server/websocket.ts';
import { defaultModelRequest, openServices, type ServiceHooks } from './services.ts';

export interface RunningServer {
  readonly url: string;
  /** One line for a person: where, with which model, in which precision, on which device and why there. */
  readonly banner: string;
  /** Refuses new requests, lets running ones end, frees everything. */
  close(): Promise<void>;
}

/** Apollo asks for errors and data of its own making; ours are graphql's, which are the same. */
type GatewayResult = Awaited<
  ReturnType<NonNullable<Awaited<ReturnType<ApolloServerOptionsWithGateway<Context>['gateway']['load']>>['executor']>>
>;

function createApollo(runner: OperationRunner, log: Logger): ApolloServer<Context> {
  return new ApolloServer<Context>({
    // Apollo's way to bring one's own executor; everything else about a request stays its business
    gateway: {
      onSchemaLoadOrUpdate: (callback) => {
        callback({ apiSchema: runner.schema, coreSupergraphSdl: '' });
        return () => {};
      },
      load: async () => ({
        executor: async ({ document, operation, request, context }): Promise<GatewayResult> => {
          const variables = request.variables ?? {};
          const result = await runner.execute({ document, operation, variables, context: context as Context });
          return result as GatewayResult;
        },
      }),
      stop: async () => {},
    },
    introspection: true,
    csrfPrevention: true,
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    parseOptions: { maxTokens: MAX_DOCUMENT_LEXEMES },
    logger: log,
    formatError: (_, error) => formatError(error, randomUUID(), log),
  });
}

async function listen(server: Server, config: Config): Promise<string> {
  server.listen(config.port, config.host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  return `http://${host}:${port}`;
}

/** Loads the default model, then listens. Rejects with what stands in the way. */
export async function startServer(config: Config, hooks: ServiceHooks = {}): Promise<RunningServer> {
  const log = pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: true }));
  const stopping = new AbortController();
  const parts = { log, hooks, stopping: stopping.signal };
  const { services, deviceChoice, resumeRuns, close } = await openServices(config, parts);
  const { models } = services;
  const defaultModel = await models.load(defaultModelRequest(config));
  // a database that cannot be opened keeps nothing else from being served
  resumeRuns().catch((error: unknown) => log.error({ err: error }, 'runs'));
  const createContext = (signal: AbortSignal): Context => ({
    services,
    signal,
    generations: new GenerationLoader(signal),
    requestId: randomUUID(),
  });
  const runner = new OperationRunner(buildGraphqlSchema(), config.limits);
  const apollo = createApollo(runner, log);
  await apollo.start();
  const isDraining = () => stopping.signal.aborted;
  const notReady = () => {
    if (isDraining()) return 'the server is stopping';
    const model = models.defaultId === undefined ? undefined : models.find(models.defaultId);
    if (model === undefined) return 'no default model is in service';
    const { status } = model.engine;
    return status === 'ready' ? undefined : `the default model, ${model.id}, is ${status}`;
  };
  const inFlight = new InFlight();
  const http = { apollo, createContext, maxBodyBytes: config.limits.maxBodyBytes, notReady, isDraining, inFlight };
  const server = createHttpServer((request, response) => {
    handleHttp(request, response, http).catch((error: unknown) => {
      log.error({ err: error }, 'request failed');
      response.destroy();
    });
  });
  const closeSockets = serveWebsocket({
    server,
    runner,
    limits: config.limits,
    createContext,
    isDraining,
    inFlight,
    log,
  });
  const url = await listen(server, config);
  const { id, precision, device } = defaultModel;
  const how = `${precision.toUpperCase()} on ${device.toUpperCase()}: ${deviceChoice.reason}`;
  return {
    url,
    banner: `GistQL serves ${id} (${how}) at ${url}/graphql`,
    close: onlyOnce(async () => {
      stopping.abort();
      await inFlight.idle();
      await close();
      await closeSockets();
      server.close();
      server.closeIdleConnections();
      await once(server, 'close');
      await apollo.stop();
    }),
  };
}

/** Runs `work` at the first call; every call gets its outcome. */
function onlyOnce(work: () => Promise<void>): () => Promise<void> {
  let outcome: Promise<void> | undefined;
  return () => {
    outcome ??= work();
    return outcome;
  };
}
